"""Small made documents that follow ABCD_2.06.xsd, and responses of the BioCASe protocol around them."""

ABCD_206 = "http://www.tdwg.org/schemas/abcd/2.06"
ABCD_21 = "http://www.tdwg.org/schemas/abcd/2.1"
CONCEPT = "/DataSets/DataSet/Units/Unit/"

CONTACTS = (
    "<TechnicalContacts><TechnicalContact><Name>T</Name></TechnicalContact></TechnicalContacts>"
    "<ContentContacts><ContentContact><Name>C</Name></ContentContact></ContentContacts>"
)
METADATA = """<Metadata><Description><Representation language="en"><Title>Herbarium Berolinense</Title></Representation>
</Description><RevisionData><DateModified>2024-03-01T00:00:00</DateModified></RevisionData>
<Owners><Owner><Organisation><Name><Representation language="en"><Text>BGBM Berlin</Text></Representation></Name>
</Organisation></Owner></Owners>
<IPRStatements><Copyrights><Copyright language="en"><Text>© BGBM</Text></Copyright></Copyrights>
<Licenses><License language="en"><Text>CC BY 4.0</Text><URI>https://creativecommons.org/licenses/by/4.0/</URI></License>
<License language="de"><Text>Namensnennung 4.0</Text></License></Licenses>
<TermsOfUseStatements><TermsOfUse language="en"><Text>cite us</Text></TermsOfUse></TermsOfUseStatements>
</IPRStatements></Metadata>"""


def document(*units: str, namespace: str = ABCD_206, metadata: str = METADATA) -> str:
    """A document of one data set."""
    return (
        f'<DataSets xmlns="{namespace}"><DataSet><DatasetGUID>urn:uuid:ds</DatasetGUID>{CONTACTS}{metadata}'
        f"<Units>{''.join(units)}</Units></DataSet></DataSets>"
    )


def response(content: str, *, start: int = 0, total: int | None = None, diagnostic: str = "") -> str:
    """An answer of a BioCASe provider around a document."""
    count = content.count("<Unit>")
    said = f'<biocase:diagnostic severity="ERROR">{diagnostic}</biocase:diagnostic>' if diagnostic else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<biocase:response xmlns:biocase="http://www.biocase.org/schemas/protocol/1.3"><biocase:header>'
        "<biocase:type>search</biocase:type></biocase:header>"
        f'<biocase:content recordCount="{count}" recordDropped="0" recordStart="{start}"'
        f' totalSearchHits="{count if total is None else total}">{content}</biocase:content>'
        f"<biocase:diagnostics>{said}</biocase:diagnostics></biocase:response>"
    )


def unit(number: str, more: str = "") -> str:
    """A unit with little in it."""
    return (
        "<Unit><SourceInstitutionID>B</SourceInstitutionID><SourceID>Herb</SourceID>"
        f"<UnitID>{number}</UnitID>{more}</Unit>"
    )


def pictured(number: int, uri: str, *, name: str = "Acacia alba", licence: str = "CC0") -> str:
    """A unit with a name, a country and an image."""
    return unit(
        str(number),
        "<Identifications><Identification><Result><TaxonIdentified><ScientificName><FullScientificNameString>"
        f"{name}</FullScientificNameString></ScientificName></TaxonIdentified></Result></Identification>"
        "</Identifications><RecordBasis>PreservedSpecimen</RecordBasis><MultiMediaObjects><MultiMediaObject>"
        f"<FileURI>{uri}</FileURI><Format>image/jpeg</Format><IPR><Licenses><License language='en'><Text>{licence}</Text>"
        "</License></Licenses></IPR></MultiMediaObject></MultiMediaObjects><Gathering><LocalityText>Secretvalley "
        f"{number}</LocalityText><Country><Name>Germany</Name><ISO3166Code>DE</ISO3166Code></Country><AreaDetail>"
        "behind the Secretrock</AreaDetail></Gathering>",
    )


UNIT = """<Unit>
<UnitGUID>https://herbarium.example.org/object/B100000001</UnitGUID>
<SourceInstitutionID>B</SourceInstitutionID><SourceID>Herbarium Berolinense</SourceID><UnitID>B 10
  0000001</UnitID><DateLastEdited>2024-03-01T12:00:00</DateLastEdited>
<Identifications>
 <Identification><Result><TaxonIdentified><ScientificName>
   <FullScientificNameString>Mimosa alba L.</FullScientificNameString></ScientificName></TaxonIdentified></Result>
   <PreferredFlag>false</PreferredFlag><Identifiers><IdentifiersText>A. Nobody</IdentifiersText></Identifiers>
   <Date><ISODateTimeBegin>1790</ISODateTimeBegin></Date></Identification>
 <Identification><Result><TaxonIdentified><InformalNameString language="la">Herbarium name</InformalNameString>
   </TaxonIdentified></Result><Notes>corrected later</Notes></Identification>
 <Identification><Result><TaxonIdentified><ScientificName>
   <FullScientificNameString>Poa annua</FullScientificNameString></ScientificName></TaxonIdentified></Result>
   <NonFlag>true</NonFlag></Identification>
 <Identification><Result><TaxonIdentified><HigherTaxa>
   <HigherTaxon><HigherTaxonName>Plantae</HigherTaxonName><HigherTaxonRank>regnum</HigherTaxonRank></HigherTaxon>
   <HigherTaxon><HigherTaxonName>Fabaceae</HigherTaxonName><HigherTaxonRank>familia</HigherTaxonRank></HigherTaxon>
   <HigherTaxon><HigherTaxonName>Mimosoideae</HigherTaxonName><HigherTaxonRank>clade</HigherTaxonRank></HigherTaxon>
   </HigherTaxa><ScientificName><FullScientificNameString>Acacia alba var. rubra (L.) Mart.</FullScientificNameString>
   <NameAtomised><Botanical><GenusOrMonomial>Acacia</GenusOrMonomial><FirstEpithet>alba</FirstEpithet>
   <InfraspecificEpithet>rubra</InfraspecificEpithet><Rank>var.</Rank><AuthorTeamParenthesis>L.</AuthorTeamParenthesis>
   <AuthorTeam>Mart.</AuthorTeam></Botanical></NameAtomised>
   <IdentificationQualifier insertionpoint="2">cf.</IdentificationQualifier></ScientificName><Code>Botanical</Code>
   </TaxonIdentified></Result><PreferredFlag>true</PreferredFlag><Identifiers>
   <Identifier><PersonName><FullName>C. Martius</FullName></PersonName></Identifier>
   <Identifier><PersonName><FullName>J. Spix</FullName></PersonName></Identifier></Identifiers>
   <Date><ISODateTimeBegin>1820-05</ISODateTimeBegin></Date><Notes>after the type</Notes></Identification>
</Identifications>
<RecordBasis>FossileSpecimen</RecordBasis>
<SpecimenUnit><Accessions><AccessionCatalogue>main</AccessionCatalogue><AccessionNumber>ACC 7</AccessionNumber></Accessions>
 <Preparations><Preparation><PreparationType>dried and pressed</PreparationType></Preparation></Preparations>
 <Marks><Mark><MarkText>Flora brasiliensis</MarkText></Mark>
  <Mark><MarkType>printed</MarkType><MarkText>Herb. Martii</MarkText></Mark></Marks>
 <History><PreviousUnits><PreviousUnit><PreviousUnitID>OLD 9</PreviousUnitID></PreviousUnit></PreviousUnits></History>
 <NomenclaturalTypeDesignations><NomenclaturalTypeDesignation><TypifiedName><FullScientificNameString>Acacia alba Mart.</FullScientificNameString>
  </TypifiedName><TypeStatus>holotype</TypeStatus></NomenclaturalTypeDesignation>
  <NomenclaturalTypeDesignation><TypeStatus>isotype</TypeStatus><DoubtfulFlag>true</DoubtfulFlag></NomenclaturalTypeDesignation>
 </NomenclaturalTypeDesignations></SpecimenUnit>
<ZoologicalUnit><PhasesOrStages><PhaseOrStage>adult</PhaseOrStage></PhasesOrStages></ZoologicalUnit>
<MultiMediaObjects>
 <MultiMediaObject><ID>img-1</ID><FileURI>images/B100000001.jpg</FileURI><Context language="en">whole sheet</Context>
  <Format>image/jpeg</Format><IPR><Licenses><License language="en"><Text>CC0</Text>
  <URI>https://creativecommons.org/publicdomain/zero/1.0/</URI></License></Licenses></IPR>
  <Creator>Photo lab</Creator></MultiMediaObject>
 <MultiMediaObject><FileURI>https://media.example.org/1.mp3</FileURI><Format>audio/mpeg</Format></MultiMediaObject>
</MultiMediaObjects>
<Gathering><Code>trip 4</Code><DateTime><DateText>Mai 1817</DateText><ISODateTimeBegin>1817-05-02</ISODateTimeBegin>
 <ISODateTimeEnd>1817-06-01</ISODateTimeEnd></DateTime>
 <Agents><GatheringAgent sequence="2"><AgentText>J. Spix</AgentText></GatheringAgent>
  <GatheringAgent primarycollector="true" sequence="3"><Person><FullName>C. Martius</FullName></Person></GatheringAgent></Agents>
 <Method>by hand</Method><LocalityText language="en">Rio Negro,
   left bank</LocalityText>
 <Country><Name language="de">Brasilien</Name><Name language="en">Brazil</Name><ISO3166Code>BR</ISO3166Code></Country>
 <NamedAreas><NamedArea sequence="1"><AreaClass>State</AreaClass><AreaName>Amazonas</AreaName></NamedArea>
  <NamedArea><AreaClass>catchment</AreaClass><AreaName>Amazon basin</AreaName></NamedArea></NamedAreas>
 <NearNamedPlaces><NamedPlaceRelation DerivedFlag="false"><NearNamedPlace>Manaus</NearNamedPlace>
  <NearNamedPlaceRelationTo>10 km S of</NearNamedPlaceRelationTo></NamedPlaceRelation></NearNamedPlaces>
 <AreaDetail>on granite</AreaDetail>
 <SiteCoordinateSets><SiteCoordinates><CoordinateMethod>map</CoordinateMethod><CoordinatesGrid><GridCellSystem>MTB</GridCellSystem>
  <GridCellCode>3546/2</GridCellCode></CoordinatesGrid><CoordinatesLatLong><LongitudeDecimal>-60.02</LongitudeDecimal>
  <LatitudeDecimal>-3.1</LatitudeDecimal><SpatialDatum>WGS84</SpatialDatum>
  <CoordinateErrorDistanceInMeters>500</CoordinateErrorDistanceInMeters>
  <CoordinatesText>3°06'S 60°01'W</CoordinatesText></CoordinatesLatLong></SiteCoordinates></SiteCoordinateSets>
 <Altitude><MeasurementOrFactAtomised><LowerValue>40</LowerValue><UpperValue>60</UpperValue>
  <UnitOfMeasurement>m</UnitOfMeasurement></MeasurementOrFactAtomised></Altitude>
 <Depth><MeasurementOrFactAtomised><LowerValue>3</LowerValue><UnitOfMeasurement>ft</UnitOfMeasurement>
  </MeasurementOrFactAtomised></Depth>
 <Biotope><Text>gallery forest</Text></Biotope><Notes>after rain</Notes></Gathering>
<CollectorsFieldNumber>123</CollectorsFieldNumber>
<MeasurementsOrFacts><MeasurementOrFact><MeasurementOrFactAtomised><Parameter>height</Parameter><LowerValue>3</LowerValue>
 </MeasurementOrFactAtomised></MeasurementOrFact>
 <MeasurementOrFact><MeasurementOrFactText>bark grey</MeasurementOrFactText></MeasurementOrFact></MeasurementsOrFacts>
<Sex>F</Sex><Notes>in flower</Notes><RecordURI>https://herbarium.example.org/B100000001.html</RecordURI>
<UnitExtension><x:Special xmlns:x="urn:x"><x:Drawer side="left">4</x:Drawer></x:Special></UnitExtension>
<UnexpectedElement>what is this?</UnexpectedElement>
</Unit>"""
"""A unit with something in every part that is read, and parts that have no term."""
